/* SPDX-License-Identifier: Apache-2.0 */
/* Which store is in use.  Any worker. */
#include "modules/files/files_private.h"

const struct file_store *
store(void)
{
	static const struct file_store *const stores[] = { &file_store_directory,
							   &file_store_swift };

	return stores[option_int(&files_self, OPT_STORE)];
}
