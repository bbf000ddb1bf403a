/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other plug-ins know of particular nodes: how they are made, who listens.  The list changes
 * on the main thread while plug-ins start and stop, and is read by all; entries are static.
 */
#include "modules/pubsub/pubsub_private.h"

static struct pubsub_preset *presets;

void
pubsub_preset_add(struct pubsub_preset *preset)
{
	preset->next = presets;
	presets = preset;
}

void
pubsub_preset_remove(struct pubsub_preset *preset)
{
	struct pubsub_preset **at = &presets;

	while (*at && *at != preset)
		at = &(*at)->next;
	if (*at)
		*at = preset->next;
}

static const struct pubsub_preset *
preset_find(struct iris_str node)
{
	const struct pubsub_preset *preset = presets;

	while (preset && !str_is(node, preset->node))
		preset = preset->next;
	return preset;
}

const char *
preset_config(struct iris_str node)
{
	const struct pubsub_preset *preset = preset_find(node);

	return preset ? preset->config : NULL;
}

bool
preset_is_told(const struct pubsub_call *call)
{
	const struct pubsub_preset *preset = call->service->user ? preset_find(call->name) : NULL;

	return preset && preset->changed;
}

void
preset_tell(const struct pubsub_call *call, struct iris_str item,
	    const struct iris_element *payload)
{
	const struct pubsub_preset *preset;
	struct pubsub_change change = { .user = call->service->user,
					.arena = call->arena,
					.item = item,
					.payload = payload };

	if (!call->service->user)
		return;
	preset = preset_find(call->name);
	if (preset && preset->changed)
		preset->changed(&change);
}
