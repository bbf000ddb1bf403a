/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sanitizers and Valgrind must be told about our memory and our stacks; nothing at all in an
 * ordinary build.  All conditional compilation for them is here.
 */
#ifndef IRIS_SANITIZERS_H
#define IRIS_SANITIZERS_H

#include <stddef.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define SAN_ADDRESS 1
/* What only a waiting fiber points at is not leaked. */
#define SAN_STACK_REGISTER(base, size) __lsan_register_root_region(base, size)
#define SAN_STACK_DEREGISTER(base, size) __lsan_unregister_root_region(base, size)
#define SAN_SWITCH_BEGIN(fake_p, bottom, size) __sanitizer_start_switch_fiber(fake_p, bottom, size)
#define SAN_SWITCH_END(fake, bottom_p, size_p) \
	__sanitizer_finish_switch_fiber(fake, bottom_p, size_p)
#else
#define SAN_ADDRESS 0
#define SAN_STACK_REGISTER(base, size) ((void)(base), (void)(size))
#define SAN_STACK_DEREGISTER(base, size) ((void)(base), (void)(size))
#define SAN_SWITCH_BEGIN(fake_p, bottom, size) ((void)(fake_p))
#define SAN_SWITCH_END(fake, bottom_p, size_p) ((void)(fake))
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#include <sanitizer/tsan_interface.h>
#define SAN_THREAD 1
#define SAN_FIBER_CURRENT() __tsan_get_current_fiber()
#define SAN_FIBER_CREATE() __tsan_create_fiber(0)
#define SAN_FIBER_DESTROY(fiber) __tsan_destroy_fiber(fiber)
#define SAN_FIBER_SWITCH(fiber) __tsan_switch_to_fiber((fiber), 0)
#else
#define SAN_THREAD 0
#define SAN_FIBER_CURRENT() NULL
#define SAN_FIBER_CREATE() NULL
#define SAN_FIBER_DESTROY(fiber) ((void)(fiber))
#define SAN_FIBER_SWITCH(fiber) ((void)(fiber))
#endif

#ifdef HAVE_VALGRIND_VALGRIND_H
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0u
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

#endif
