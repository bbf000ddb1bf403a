# SPDX-License-Identifier: Apache-2.0
"""Does a stanza look like what the play expects?

A pattern is a subset: what it names must be there, other attributes and children may be. But: a
stanza's `type` that is not named must not be there; play:absent names attributes that must not be
there; <play:no> holds children that must not be there; play:exact allows nothing more.
"""
import xml.etree.ElementTree as ET

from . import script

CLIENT = 'jabber:client'
STREAMS = 'http://etherx.jabber.org/streams'
PLAY = 'urn:iris:play'
XML = 'http://www.w3.org/XML/1998/namespace'
STANZAS = tuple('{%s}%s' % (ns, name) for ns in (CLIENT, 'jabber:component:accept')
                for name in ('message', 'presence', 'iq'))


def parse(text, ns=CLIENT):
    """The elements of a block."""
    root = ET.fromstring("<play:root xmlns:play='%s' xmlns:stream='%s' xmlns='%s'>%s</play:root>" % (
        PLAY, STREAMS, ns, text))
    return list(root)


def name_of(tag):
    ns, _, name = tag[1:].partition('}') if tag.startswith('{') else ('', '', tag)
    return ns, name


def _escape(text, quote=False):
    text = text.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')
    return text.replace("'", '&apos;') if quote else text


def show(element, outer=CLIENT, whole=False):
    """One element as XML: xmlns where it changes. For people (cut short) unless `whole`."""
    ns, name = name_of(element.tag)
    inner = ns
    if ns == STREAMS:
        name, inner = 'stream:' + name, outer
    out = '<' + name
    if ns not in (outer, STREAMS):
        out += " xmlns='%s'" % ns
    for key, value in element.attrib.items():
        space, local = name_of(key)
        prefix = {'': '', XML: 'xml:', PLAY: 'play:'}.get(space)
        if prefix is None:
            out += " xmlns:x='%s'" % space
            prefix = 'x:'
        out += " %s%s='%s'" % (prefix, local, _escape(value, True))
    text = _escape(element.text or '')
    if len(text) > 600 and not whole:
        text = '%s… (%d characters)' % (text[:500], len(text))
    inside = text + ''.join(show(child, inner, whole) + _escape(child.tail or '') for child in element)
    return out + '/>' if not inside else '%s>%s</%s>' % (out, inside, name)


class Matcher:
    """One comparison; `captured` is what the pattern's unknown {names} stood for."""

    def __init__(self, names):
        self.names = names
        self.captured = {}

    def _text(self, pattern, value):
        known = dict(self.names, **self.captured)
        found = script.glob(pattern, known).fullmatch(value)
        if not found:
            return False
        self.captured.update(found.groupdict())
        return True

    def element(self, pattern, element):
        """None when it matches, else why not."""
        if pattern.tag != element.tag:
            return 'it is <%s xmlns=%r>' % name_of(element.tag)[::-1]
        exact = pattern.get('{%s}exact' % PLAY)
        absent = (pattern.get('{%s}absent' % PLAY) or '').split()
        if pattern.tag in STANZAS and 'type' not in pattern.attrib:
            if not (pattern.tag.endswith('}message') and element.get('type') == 'normal'):
                absent.append('type')
        for key, value in pattern.attrib.items():
            if key.startswith('{%s}' % PLAY):
                continue
            if key not in element.attrib:
                return 'attribute %s is missing' % key
            if not self._text(value, element.attrib[key]):
                return 'attribute %s is %r' % (key, element.attrib[key])
        for key in element.attrib:
            if key in absent or exact and key not in pattern.attrib:
                return 'attribute %s is there' % key
        if (pattern.text or '').strip():
            if not self._text(pattern.text.strip(), (element.text or '').strip()):
                return 'the text of <%s> is %r' % (name_of(element.tag)[1], element.text)
        elif exact and (element.text or '').strip():
            return 'there is text in <%s>' % name_of(element.tag)[1]
        return self._children(pattern, element, exact)

    def _children(self, pattern, element, exact):
        left = list(element)
        for wanted in pattern:
            if wanted.tag == '{%s}no' % PLAY:
                for bad in wanted:
                    if any(Matcher(self.names).element(bad, child) is None for child in element):
                        return 'there is a ' + show(bad)
                continue
            whys = []
            for child in left:
                before = dict(self.captured)
                why = self.element(wanted, child)
                if why is None:
                    left.remove(child)
                    break
                self.captured = before
                if child.tag == wanted.tag:
                    whys.append(why)
            else:
                ns, name = name_of(wanted.tag)
                return 'in <%s>: %s' % (name_of(element.tag)[1],
                                        '; '.join(whys) or 'no <%s xmlns=%r>' % (name, ns))
        if exact and left:
            return 'there is more: ' + show(left[0])
        return None


def match(pattern, element, names):
    """(None, captured) when `element` is what `pattern` says, else (why, {})."""
    matcher = Matcher(names)
    why = matcher.element(pattern, element)
    return (why, {}) if why else (None, matcher.captured)
