/* SPDX-License-Identifier: Apache-2.0 */
/* Only the removal of a device is told through a function that DPDK calls so. */
#define ALLOW_EXPERIMENTAL_API
#include "shim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* The Rust side reads and writes these fields in place: their types must be what it takes them for. */
#define FIELD_IS(field, type) \
	_Static_assert(sizeof(((struct rte_mbuf *)0)->field) == sizeof(type), #field)
FIELD_IS(buf_addr, void *);
FIELD_IS(buf_len, uint16_t);
FIELD_IS(data_off, uint16_t);
FIELD_IS(data_len, uint16_t);
FIELD_IS(pkt_len, uint32_t);
FIELD_IS(nb_segs, uint16_t);
FIELD_IS(port, uint16_t);
FIELD_IS(ol_flags, uint64_t);
FIELD_IS(vlan_tci, uint16_t);
FIELD_IS(vlan_tci_outer, uint16_t);
FIELD_IS(hash.rss, uint32_t);
FIELD_IS(tx_offload, uint64_t);

int shim_errno(void)
{
	return rte_errno;
}

unsigned int shim_lcore_id(void)
{
	return rte_lcore_id();
}

static shim_log_fn log_write;

static ssize_t log_cookie_write(void *cookie, const char *text, size_t len)
{
	/* rte_vlog() flushes each message, so the level is still this message's. */
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_write(level > 0 ? (uint32_t)level : RTE_LOG_INFO, text, len);
	return (ssize_t)len;
}

int shim_log_to(shim_log_fn write)
{
	cookie_io_functions_t io = { .write = log_cookie_write };
	FILE *f;

	log_write = write;
	f = fopencookie(NULL, "w", io);
	if (f == NULL)
		return -1;
	return rte_openlog_stream(f);
}

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **out, uint16_t n)
{
	return rte_eth_rx_burst(port, queue, out, n);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **in, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, in, n);
}

uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **in, uint16_t n)
{
	return rte_eth_tx_prepare(port, queue, in, n);
}

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **out, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, out, n);
}

void shim_mbuf_free(struct rte_mbuf *m)
{
	rte_pktmbuf_free(m);
}

int shim_mbuf_linearize(struct rte_mbuf *m)
{
	return rte_pktmbuf_linearize(m);
}

uint32_t shim_mempool_size(const struct rte_mempool *pool)
{
	return pool->size;
}

/* Written by DPDK's interrupt thread and the drivers, read by whoever looks after the ports. */
static _Atomic uint32_t events[RTE_MAX_ETHPORTS];

static void note_event(uint16_t port, uint32_t what)
{
	if (port < RTE_MAX_ETHPORTS)
		atomic_fetch_or(&events[port], what);
}

static int on_port_event(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)arg;
	(void)ret;
	switch (event) {
	case RTE_ETH_EVENT_INTR_LSC:
		note_event(port, SHIM_EVENT_LINK);
		break;
	case RTE_ETH_EVENT_INTR_RMV:
		note_event(port, SHIM_EVENT_REMOVED);
		break;
	case RTE_ETH_EVENT_INTR_RESET:
		note_event(port, SHIM_EVENT_RESET);
		break;
	default:
		break;
	}
	return 0;
}

/* A device of VFIO is asked for by the kernel: the port knows nothing of it. */
static void on_device_event(const char *name, enum rte_dev_event_type event, void *arg)
{
	(void)name;
	if (event == RTE_DEV_EVENT_REMOVE)
		note_event((uint16_t)(uintptr_t)arg, SHIM_EVENT_REMOVED);
}

static const enum rte_eth_event_type WATCHED[] = {
	RTE_ETH_EVENT_INTR_LSC,
	RTE_ETH_EVENT_INTR_RMV,
	RTE_ETH_EVENT_INTR_RESET,
};

int shim_events_watch(uint16_t port, const char *device)
{
	size_t i;
	int err;

	if (port >= RTE_MAX_ETHPORTS)
		return -EINVAL;
	atomic_store(&events[port], 0);
	for (i = 0; i < RTE_DIM(WATCHED); i++) {
		err = rte_eth_dev_callback_register(port, WATCHED[i], on_port_event, NULL);
		if (err != 0)
			return err;
	}
	if (device == NULL)
		return 0;
	return rte_dev_event_callback_register(device, on_device_event, (void *)(uintptr_t)port);
}

void shim_events_unwatch(uint16_t port, const char *device)
{
	size_t i;

	for (i = 0; i < RTE_DIM(WATCHED); i++)
		rte_eth_dev_callback_unregister(port, WATCHED[i], on_port_event, NULL);
	if (device != NULL)
		rte_dev_event_callback_unregister(device, on_device_event, (void *)(uintptr_t)port);
}

uint32_t shim_events_take(uint16_t port)
{
	return port < RTE_MAX_ETHPORTS ? atomic_exchange(&events[port], 0) : 0;
}

int shim_device_info(uint16_t port, struct shim_device_info *out)
{
	struct rte_eth_dev_info info;
	int err;

	memset(&info, 0, sizeof(info));
	err = rte_eth_dev_info_get(port, &info);
	if (err != 0)
		return err;
	memset(out, 0, sizeof(*out));
	out->driver_name = info.driver_name;
	out->if_index = info.if_index;
	out->min_mtu = info.min_mtu;
	out->max_mtu = info.max_mtu;
	out->max_rx_pktlen = info.max_rx_pktlen;
	out->min_rx_bufsize = info.min_rx_bufsize;
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->rx_desc_min = info.rx_desc_lim.nb_min;
	out->rx_desc_max = info.rx_desc_lim.nb_max;
	out->rx_desc_align = info.rx_desc_lim.nb_align;
	out->tx_desc_min = info.tx_desc_lim.nb_min;
	out->tx_desc_max = info.tx_desc_lim.nb_max;
	out->tx_desc_align = info.tx_desc_lim.nb_align;
	out->reta_size = info.reta_size;
	out->hash_key_size = info.hash_key_size;
	out->rx_offload_capa = info.rx_offload_capa;
	out->tx_offload_capa = info.tx_offload_capa;
	out->rss_capa = info.flow_type_rss_offloads;
	return 0;
}

int shim_device_socket(uint16_t port)
{
	return rte_eth_dev_socket_id(port);
}

int shim_device_remove(uint16_t port)
{
	struct rte_eth_dev_info info;
	int err;

	memset(&info, 0, sizeof(info));
	err = rte_eth_dev_info_get(port, &info);
	if (err != 0)
		return err;
	err = rte_eth_dev_close(port);
	if (err != 0)
		return err;
	return info.device != NULL ? rte_dev_remove(info.device) : 0;
}

int shim_port_configure(uint16_t port, const struct shim_port_conf *conf)
{
	struct rte_eth_conf eth;
	struct rte_eth_dev_info info;
	int err;

	memset(&info, 0, sizeof(info));
	err = rte_eth_dev_info_get(port, &info);
	if (err != 0)
		return err;
	memset(&eth, 0, sizeof(eth));
	/* Asking for one that the device has not got is an error. */
	if (conf->event_interrupts && info.dev_flags != NULL) {
		eth.intr_conf.lsc = (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
		eth.intr_conf.rmv = (*info.dev_flags & RTE_ETH_DEV_INTR_RMV) != 0;
	}
	eth.rxmode.mtu = conf->mtu;
	eth.rxmode.offloads = conf->rx_offloads;
	eth.txmode.offloads = conf->tx_offloads;
	eth.txmode.mq_mode = RTE_ETH_MQ_TX_NONE;
	eth.intr_conf.rxq = conf->rx_interrupts != 0;
	eth.rxmode.mq_mode = RTE_ETH_MQ_RX_NONE;
	if (conf->rss_hf != 0) {
		eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		eth.rx_adv_conf.rss_conf.rss_hf = conf->rss_hf;
		eth.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)conf->rss_key;
		eth.rx_adv_conf.rss_conf.rss_key_len = conf->rss_key_len;
	}
	return rte_eth_dev_configure(port, conf->rx_queues, conf->tx_queues, &eth);
}

int shim_adjust_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx)
{
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx);
}

int shim_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket,
			uint64_t offloads, struct rte_mempool *pool)
{
	struct rte_eth_dev_info info;
	struct rte_eth_rxconf conf;
	int err;

	memset(&info, 0, sizeof(info));
	err = rte_eth_dev_info_get(port, &info);
	if (err != 0)
		return err;
	conf = info.default_rxconf;
	conf.offloads = offloads & info.rx_queue_offload_capa;
	return rte_eth_rx_queue_setup(port, queue, desc, (unsigned int)socket, &conf, pool);
}

int shim_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket,
			uint64_t offloads)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf conf;
	int err;

	memset(&info, 0, sizeof(info));
	err = rte_eth_dev_info_get(port, &info);
	if (err != 0)
		return err;
	conf = info.default_txconf;
	conf.offloads = offloads & info.tx_queue_offload_capa;
	return rte_eth_tx_queue_setup(port, queue, desc, (unsigned int)socket, &conf);
}

int shim_rss_update(uint16_t port, uint64_t rss_hf, const uint8_t *key, uint8_t key_len)
{
	struct rte_eth_rss_conf conf = {
		.rss_key = (uint8_t *)(uintptr_t)key,
		.rss_key_len = key_len,
		.rss_hf = rss_hf,
	};

	return rte_eth_dev_rss_hash_update(port, &conf);
}

int shim_rss_key(uint16_t port, uint8_t *out, uint8_t room)
{
	struct rte_eth_rss_conf conf = { .rss_key = out, .rss_key_len = room };

	return rte_eth_dev_rss_hash_conf_get(port, &conf);
}

/* The table's size, and room for it; NULL with a negative errno in `size`. */
static struct rte_eth_rss_reta_entry64 *reta_room(uint16_t port, int *size)
{
	struct rte_eth_rss_reta_entry64 *reta;
	struct rte_eth_dev_info info;
	int i, groups;

	memset(&info, 0, sizeof(info));
	*size = rte_eth_dev_info_get(port, &info);
	if (*size != 0)
		return NULL;
	*size = info.reta_size != 0 ? info.reta_size : -ENOTSUP;
	if (*size < 0)
		return NULL;
	groups = (*size + RTE_ETH_RETA_GROUP_SIZE - 1) / RTE_ETH_RETA_GROUP_SIZE;
	reta = calloc((size_t)groups, sizeof(*reta));
	if (reta == NULL) {
		*size = -ENOMEM;
		return NULL;
	}
	for (i = 0; i < *size; i++)
		reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << (i % RTE_ETH_RETA_GROUP_SIZE);
	return reta;
}

int shim_reta_set(uint16_t port, const uint16_t *queues, unsigned int n)
{
	struct rte_eth_rss_reta_entry64 *reta;
	int i, size, err;

	if (n == 0)
		return -EINVAL;
	reta = reta_room(port, &size);
	if (reta == NULL)
		return size;
	for (i = 0; i < size; i++)
		reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
			queues[(unsigned int)i % n];
	err = rte_eth_dev_rss_reta_update(port, reta, (uint16_t)size);
	free(reta);
	return err;
}

int shim_reta_get(uint16_t port, uint16_t *out, unsigned int room)
{
	struct rte_eth_rss_reta_entry64 *reta;
	int i, size, err;

	reta = reta_room(port, &size);
	if (reta == NULL)
		return size;
	err = rte_eth_dev_rss_reta_query(port, reta, (uint16_t)size);
	for (i = 0; err == 0 && i < size && (unsigned int)i < room; i++)
		out[i] = reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	free(reta);
	return err == 0 ? size : err;
}

int shim_mac(uint16_t port, uint8_t out[6])
{
	struct rte_ether_addr mac;
	int err = rte_eth_macaddr_get(port, &mac);

	if (err == 0)
		memcpy(out, mac.addr_bytes, sizeof(mac.addr_bytes));
	return err;
}

int shim_mac_add(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;

	memcpy(addr.addr_bytes, mac, sizeof(addr.addr_bytes));
	return rte_eth_dev_mac_addr_add(port, &addr, 0);
}

int shim_mac_remove(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;

	memcpy(addr.addr_bytes, mac, sizeof(addr.addr_bytes));
	return rte_eth_dev_mac_addr_remove(port, &addr);
}

int shim_multicast_set(uint16_t port, const uint8_t *macs, uint32_t n)
{
	struct rte_ether_addr *list;
	uint32_t i;
	int err;

	if (n == 0)
		return rte_eth_dev_set_mc_addr_list(port, NULL, 0);
	list = calloc(n, sizeof(*list));
	if (list == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		memcpy(list[i].addr_bytes, macs + (size_t)i * 6, 6);
	err = rte_eth_dev_set_mc_addr_list(port, list, n);
	free(list);
	return err;
}

int shim_mac_set(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;

	memcpy(addr.addr_bytes, mac, sizeof(addr.addr_bytes));
	return rte_eth_dev_default_mac_addr_set(port, &addr);
}

int shim_probe(uint16_t port)
{
	/* No VLAN at all: taking it out is carried to the physical function, which has nothing to do. */
	return rte_eth_dev_vlan_filter(port, 0, 0);
}

int shim_link(uint16_t port, struct shim_link *out)
{
	struct rte_eth_link link;
	int err;

	memset(&link, 0, sizeof(link));
	err = rte_eth_link_get_nowait(port, &link);
	if (err != 0)
		return err;
	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	out->autoneg = link.link_autoneg == RTE_ETH_LINK_AUTONEG;
	return 0;
}

int shim_stats(uint16_t port, struct shim_stats *out)
{
	struct rte_eth_stats s;
	int err;

	memset(&s, 0, sizeof(s));
	err = rte_eth_stats_get(port, &s);
	if (err != 0)
		return err;
	out->rx_packets = s.ipackets;
	out->tx_packets = s.opackets;
	out->rx_bytes = s.ibytes;
	out->tx_bytes = s.obytes;
	out->rx_missed = s.imissed;
	out->rx_errors = s.ierrors;
	out->tx_errors = s.oerrors;
	out->rx_nombuf = s.rx_nombuf;
	return 0;
}

int shim_xstats(uint16_t port, struct shim_xstat *out, unsigned int n)
{
	struct rte_eth_xstat *values;
	struct rte_eth_xstat_name *names;
	int have, got, i;

	have = rte_eth_xstats_get_names(port, NULL, 0);
	if (have <= 0 || n == 0)
		return have;
	values = calloc((size_t)have, sizeof(*values));
	names = calloc((size_t)have, sizeof(*names));
	if (values == NULL || names == NULL) {
		got = -ENOMEM;
		goto out;
	}
	got = rte_eth_xstats_get_names(port, names, (unsigned int)have);
	if (got < 0 || got > have)
		goto out;
	got = rte_eth_xstats_get(port, values, (unsigned int)have);
	if (got < 0 || got > have)
		goto out;
	for (i = 0; i < got && (unsigned int)i < n; i++) {
		if (values[i].id >= (uint64_t)have)
			continue;
		memcpy(out[i].name, names[values[i].id].name, sizeof(out[i].name));
		out[i].name[sizeof(out[i].name) - 1] = '\0';
		out[i].value = values[i].value;
	}
out:
	free(values);
	free(names);
	return got;
}
