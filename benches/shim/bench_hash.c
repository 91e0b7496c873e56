/* SPDX-License-Identifier: Apache-2.0 */

#include "bench_hash.h"

#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lcore.h>

struct rte_hash *bench_hash_create(const char *name, uint32_t entries,
				   uint32_t key_len, uint32_t seed)
{
	const struct rte_hash_parameters parameters = {
		.name = name,
		.entries = entries,
		.key_len = key_len,
		/* The instruction, as applications of DPDK usually choose. */
		.hash_func = rte_hash_crc,
		.hash_func_init_val = seed,
		.socket_id = SOCKET_ID_ANY,
		/* One thread, and no key is lost when both of its buckets are full. */
		.extra_flag = RTE_HASH_EXTRA_FLAGS_EXT_TABLE,
	};

	return rte_hash_create(&parameters);
}

void bench_hash_free(struct rte_hash *table)
{
	rte_hash_free(table);
}

int bench_hash_add(struct rte_hash *table, const void *key, uint64_t value)
{
	return rte_hash_add_key_data(table, key, (void *)(uintptr_t)value);
}

int bench_hash_remove(struct rte_hash *table, const void *key)
{
	return rte_hash_del_key(table, key) >= 0;
}

uint64_t bench_hash_look_up(struct rte_hash *table, const void **keys,
			    uint32_t count, void **values)
{
	uint64_t found = 0;

	if (rte_hash_lookup_bulk_data(table, keys, count, &found, values) < 0)
		return 0;
	return found;
}
