/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Rust side sees of DPDK.
 *
 * Three things cannot be taken from DPDK's headers as they are: functions
 * that are inline (they have no symbol), structures whose layout moves
 * between releases, and macros. The shim gives each of them a stable form, so
 * that the same Rust source builds against 22.11 and 24.11.
 */
#ifndef TMM_DPDK_SHIM_H
#define TMM_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Where the fields of an mbuf lie, in bytes from its start. */
enum {
	SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SHIM_MBUF_PORT = offsetof(struct rte_mbuf, port),
	SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SHIM_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	SHIM_MBUF_RSS_HASH = offsetof(struct rte_mbuf, hash.rss),
	SHIM_MBUF_VLAN_TCI_OUTER = offsetof(struct rte_mbuf, vlan_tci_outer),
	SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	SHIM_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
};

/* Sizes and bounds. */
enum {
	SHIM_MBUF_SIZE = sizeof(struct rte_mbuf),
	SHIM_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM,
	SHIM_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE,
	SHIM_MEMPOOL_NAME_SIZE = RTE_MEMPOOL_NAMESIZE,
	SHIM_MAX_LCORE = RTE_MAX_LCORE,
	SHIM_ETH_NAME_SIZE = RTE_ETH_NAME_MAX_LEN,
	SHIM_XSTAT_NAME_SIZE = RTE_ETH_XSTATS_NAME_SIZE,
	SHIM_TX_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	SHIM_TX_L2_LEN_SHIFT = RTE_MBUF_L2_LEN_OFS,
	SHIM_TX_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS,
	SHIM_TX_L3_LEN_SHIFT = RTE_MBUF_L3_LEN_OFS,
};

/* `ol_flags` of a received mbuf. */
static const uint64_t SHIM_RX_VLAN = RTE_MBUF_F_RX_VLAN;
static const uint64_t SHIM_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t SHIM_RX_QINQ = RTE_MBUF_F_RX_QINQ;
static const uint64_t SHIM_RX_QINQ_STRIPPED = RTE_MBUF_F_RX_QINQ_STRIPPED;
static const uint64_t SHIM_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SHIM_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t SHIM_RX_IP_CKSUM_NONE = RTE_MBUF_F_RX_IP_CKSUM_NONE;
static const uint64_t SHIM_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t SHIM_RX_L4_CKSUM_NONE = RTE_MBUF_F_RX_L4_CKSUM_NONE;

/* `ol_flags` of an mbuf to send. */
static const uint64_t SHIM_TX_VLAN = RTE_MBUF_F_TX_VLAN;
static const uint64_t SHIM_TX_QINQ = RTE_MBUF_F_TX_QINQ;
static const uint64_t SHIM_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t SHIM_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t SHIM_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t SHIM_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t SHIM_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t SHIM_TX_SCTP_CKSUM = RTE_MBUF_F_TX_SCTP_CKSUM;
static const uint64_t SHIM_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;

/* Say who owns the buffer: never to be cleared with the others. */
static const uint64_t SHIM_MBUF_OWNERSHIP = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;

/* Offloads of a port, receive side. */
static const uint64_t SHIM_RXO_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t SHIM_RXO_VLAN_FILTER = RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
static const uint64_t SHIM_RXO_QINQ_STRIP = RTE_ETH_RX_OFFLOAD_QINQ_STRIP;
static const uint64_t SHIM_RXO_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RXO_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_RXO_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_RXO_SCTP_CKSUM = RTE_ETH_RX_OFFLOAD_SCTP_CKSUM;
static const uint64_t SHIM_RXO_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RXO_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;

/* Offloads of a port, transmit side. */
static const uint64_t SHIM_TXO_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t SHIM_TXO_QINQ_INSERT = RTE_ETH_TX_OFFLOAD_QINQ_INSERT;
static const uint64_t SHIM_TXO_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_TXO_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t SHIM_TXO_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_TXO_SCTP_CKSUM = RTE_ETH_TX_OFFLOAD_SCTP_CKSUM;
static const uint64_t SHIM_TXO_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* Receive side scaling: what is hashed. */
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t SHIM_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t SHIM_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t SHIM_RSS_SCTP = RTE_ETH_RSS_SCTP;
/* All that a TCP or UDP packet of either family needs to be hashed with its ports. */
static const uint64_t SHIM_RSS_TUPLES =
	RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
	RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t SHIM_RSS_L3_SRC_ONLY = RTE_ETH_RSS_L3_SRC_ONLY;
static const uint64_t SHIM_RSS_L3_DST_ONLY = RTE_ETH_RSS_L3_DST_ONLY;

/* What a device can do. */
struct shim_device_info {
	const char *driver_name; /* static, owned by the driver */
	uint32_t if_index;       /* kernel interface below it, or 0 */
	uint32_t min_mtu;
	uint32_t max_mtu;
	uint32_t max_rx_pktlen;
	uint32_t min_rx_bufsize;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t rx_desc_min, rx_desc_max, rx_desc_align;
	uint16_t tx_desc_min, tx_desc_max, tx_desc_align;
	uint16_t reta_size;
	uint8_t hash_key_size; /* 0: the driver does not say */
	uint64_t rx_offload_capa;
	uint64_t tx_offload_capa;
	uint64_t rss_capa;
};

/* How a port is to be set up. */
struct shim_port_conf {
	uint16_t rx_queues;
	uint16_t tx_queues;
	uint32_t mtu;
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint64_t rss_hf; /* 0: one queue gets everything, or the driver's way */
	const uint8_t *rss_key; /* NULL: the driver's own */
	uint8_t rss_key_len;
	uint8_t rx_interrupts; /* whether receive queues can raise them */
	uint8_t event_interrupts; /* of link and removal, where the device has them */
};

struct shim_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
	uint8_t autoneg;
};

struct shim_stats {
	uint64_t rx_packets, tx_packets;
	uint64_t rx_bytes, tx_bytes;
	uint64_t rx_missed, rx_errors, tx_errors, rx_nombuf;
};

struct shim_xstat {
	char name[RTE_ETH_XSTATS_NAME_SIZE];
	uint64_t value;
};

/* Called with each piece of log text, at rte_log()'s level (4 error … 8 debug). */
typedef void (*shim_log_fn)(uint32_t level, const char *text, size_t len);

int shim_errno(void);
unsigned int shim_lcore_id(void);
/* Sends all of DPDK's log to `write`; 0, or -1 without memory. */
int shim_log_to(shim_log_fn write);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **out, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **in, uint16_t n);
uint16_t shim_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **in, uint16_t n);

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
int shim_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **out, unsigned int n);
void shim_mbuf_free(struct rte_mbuf *m);
int shim_mbuf_linearize(struct rte_mbuf *m);
uint32_t shim_mempool_size(const struct rte_mempool *pool);

/* What a device has told since it was last asked. */
enum {
	SHIM_EVENT_LINK = 1,
	SHIM_EVENT_RESET = 2,
	SHIM_EVENT_REMOVED = 4,
};

/* Notes what the port tells from now on; `device`: name on its bus, for one that can be pulled out, or NULL. */
int shim_events_watch(uint16_t port, const char *device);
void shim_events_unwatch(uint16_t port, const char *device);
/* What was noted since the last time. */
uint32_t shim_events_take(uint16_t port);

int shim_device_info(uint16_t port, struct shim_device_info *out);
int shim_device_socket(uint16_t port);
/* Closes the port and takes its device off the bus. */
int shim_device_remove(uint16_t port);
int shim_port_configure(uint16_t port, const struct shim_port_conf *conf);
int shim_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket,
			uint64_t offloads, struct rte_mempool *pool);
int shim_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t desc, int socket,
			uint64_t offloads);
int shim_adjust_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx);
/* What is hashed from now on, and by which key; NULL: by the same as before. */
int shim_rss_update(uint16_t port, uint64_t rss_hf, const uint8_t *key, uint8_t key_len);
/* The first `room` octets of the key that is in use; `room` is at least the key's length. */
int shim_rss_key(uint16_t port, uint8_t *out, uint8_t room);
/* Fills the table of queues with `queues`, repeated. */
int shim_reta_set(uint16_t port, const uint16_t *queues, unsigned int n);
/* Reads up to `room` places of it; returns how many it has, or a negative errno. */
int shim_reta_get(uint16_t port, uint16_t *out, unsigned int room);
int shim_mac(uint16_t port, uint8_t out[6]);
/* One more address whose frames are taken in, or no longer. */
int shim_mac_add(uint16_t port, const uint8_t mac[6]);
int shim_mac_remove(uint16_t port, const uint8_t mac[6]);
/* The multicast groups to take in, in place of those before: `n` addresses of six octets each. */
int shim_multicast_set(uint16_t port, const uint8_t *macs, uint32_t n);
int shim_mac_set(uint16_t port, const uint8_t mac[6]);
/* Asks for nothing that changes anything, of whoever owns the device. */
int shim_probe(uint16_t port);
int shim_link(uint16_t port, struct shim_link *out);
int shim_stats(uint16_t port, struct shim_stats *out);
/* Fills up to `n`; returns how many there are, or a negative errno. */
int shim_xstats(uint16_t port, struct shim_xstat *out, unsigned int n);

#endif
