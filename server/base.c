/* SPDX-License-Identifier: Apache-2.0 */
#include "iris/base.h"
