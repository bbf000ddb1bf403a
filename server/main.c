/* SPDX-License-Identifier: Apache-2.0 */
/* irisd: see boot.c for the stages of start and stop. */
#include "iris/base.h"

int
main(void)
{
	return 0;
}
