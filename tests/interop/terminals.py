# SPDX-License-Identifier: Apache-2.0
"""How clients that want a screen are started and signed in: profanity, poezio. Each in a folder of its own."""
import asyncio
import os
import shutil

from visit import PASSWORD, Terminal


async def start_profanity(visit, folder):
    os.makedirs(folder + '/.config/profanity')
    with open(folder + '/.config/profanity/profrc', 'w', encoding='utf-8') as f:
        f.write('[ui]\nsplash=false\nwrap=false\n[connection]\nautoping=0\n[logging]\nchlog=false\n')
    return Terminal(folder, ['profanity'], visit.environment)


async def sign_in_profanity(visit, terminal, jid):
    await terminal.shows('/help')
    await terminal.type('/connect %s server 127.0.0.1 port %d tls force' % (jid, visit.port))
    await terminal.shows('password')
    await terminal.type(PASSWORD)
    await terminal.shows('logged in successfully')


def start_poezio(visit, folder, jid):
    """It does not run as root: then it is nobody, in a folder of nobody's."""
    home = os.path.join(folder, 'home')
    os.makedirs(home)
    shutil.copy(visit.authority, home + '/authority.pem')
    settings = {'jid': jid, 'password': PASSWORD, 'custom_host': '127.0.0.1', 'custom_port': visit.port,
                'ca_cert_path': home + '/authority.pem', 'rooms': '', 'send_os_info': 'false',
                'default_nick': 'poezio',
                **{name + '_dir': home + '/' + name for name in ('log', 'data', 'cache', 'plugins_conf')}}
    with open(home + '/poezio.cfg', 'w', encoding='utf-8') as f:
        f.writelines(['[Poezio]\n'] + ['%s = %s\n' % item for item in settings.items()])
    argv = ['poezio', '-f', home + '/poezio.cfg']
    if os.getuid() == 0:
        for path in (home, home + '/poezio.cfg', home + '/authority.pem'):
            os.chown(path, 65534, 65534)
        for path in (folder, visit.folder, os.path.dirname(visit.folder)):
            os.chmod(path, 0o711)
        argv = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'] + argv
    return Terminal(folder, argv, {
        'HOME': home, **{'XDG_%s_HOME' % name: home for name in ('CONFIG', 'DATA', 'CACHE')}})


async def poezio_command(terminal, text):
    """A slash opens the command line where there is none: in the roster."""
    terminal.tmux('send-keys', '-t', 'x', '-l', '/')
    await asyncio.sleep(0.1)
    await terminal.type(text)
