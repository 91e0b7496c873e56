//! 802.1Q and 802.1ad demux and tagging, self IPs, neighbours, and answers for owned addresses.
