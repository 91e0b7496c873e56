/* SPDX-License-Identifier: Apache-2.0
 *
 * DPDK's hash table, as the benchmark of flow tables uses it. The parameters
 * of its constructor are a structure; the rest could be called as it is.
 */
#ifndef TMM_BENCH_RTE_HASH_H
#define TMM_BENCH_RTE_HASH_H

#include <stdint.h>

struct rte_hash;

/* A table for `entries` keys of `key_len` octets, or NULL. */
struct rte_hash *bench_hash_create(const char *name, uint32_t entries,
				   uint32_t key_len, uint32_t seed);

void bench_hash_free(struct rte_hash *table);

/* 0, or a negative errno. */
int bench_hash_add(struct rte_hash *table, const void *key, uint64_t value);

/* Whether the key was there. */
int bench_hash_remove(struct rte_hash *table, const void *key);

/* Up to 64 keys at once; returns a mask of those found, and their values. */
uint64_t bench_hash_look_up(struct rte_hash *table, const void **keys,
			    uint32_t count, void **values);

#endif
