//! The state of a flow, and what a packet does to it.

use std::fmt;

use net::IpProto;
use net::sctp::Chunks;

use crate::event::EndReason;
use crate::tcp::TcpSegment;

/// The state of a flow. The names shown are the ones operators know from `ss` and `conntrack`.
///
/// For TCP it is what both ends together have shown, not the state of either end: half-closed
/// states do not say which side closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// TCP: one side has sent a SYN.
    SynSent,
    /// TCP: both sides have sent a SYN, and one of them is not acknowledged yet.
    SynReceived,
    /// TCP and SCTP: the handshake is complete.
    Established,
    /// TCP: one side has sent a FIN.
    FinWait,
    /// TCP: one side has sent a FIN and the other has acknowledged it.
    CloseWait,
    /// TCP: both sides have sent a FIN, and one of them is not acknowledged yet.
    LastAck,
    /// TCP: both sides have closed; kept for packets that are late.
    TimeWait,
    /// TCP: reset; SCTP: aborted; kept for packets that were under way.
    Closed,
    /// Other protocols: packets in the original direction only.
    Unreplied,
    /// Other protocols: packets in both directions.
    Replied,
    /// SCTP: INIT was sent.
    CookieWait,
    /// SCTP: the client has sent COOKIE ECHO, which is not answered yet.
    CookieEchoed,
    /// SCTP: the client has sent SHUTDOWN.
    ShutdownSent,
    /// SCTP: the server has sent SHUTDOWN.
    ShutdownReceived,
    /// SCTP: SHUTDOWN was answered.
    ShutdownAckSent,
    /// SCTP: both sides have finished; kept for packets that are late.
    ShutdownComplete,
    /// Datagrams that are balanced one by one, see [`Table::enter_beside`](crate::Table::enter_beside).
    Datagrams,
}

impl State {
    /// Every state, in the order of the discriminants.
    pub const ALL: [Self; 17] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
        Self::Unreplied,
        Self::Replied,
        Self::CookieWait,
        Self::CookieEchoed,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::ShutdownComplete,
        Self::Datagrams,
    ];

    /// The name in dumps and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Closed => "CLOSED",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::ShutdownComplete => "SHUTDOWN_COMPLETE",
            Self::Datagrams => "DATAGRAMS",
        }
    }

    /// Whether both ends have agreed to talk and neither has begun to close: such a flow is never
    /// evicted.
    #[inline]
    pub const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::Replied)
    }

    /// The state in which a flow of `proto` begins.
    pub(crate) const fn initial(proto: IpProto) -> Self {
        if proto.0 == IpProto::TCP.0 {
            Self::SynSent
        } else if proto.0 == IpProto::SCTP.0 {
            Self::CookieWait
        } else {
            Self::Unreplied
        }
    }

    /// Why a flow ends that was silent for too long in this state.
    pub(crate) const fn expiry(self) -> EndReason {
        match self {
            Self::SynSent
            | Self::SynReceived
            | Self::Unreplied
            | Self::CookieWait
            | Self::CookieEchoed => EndReason::Unanswered,
            Self::TimeWait | Self::ShutdownComplete => EndReason::Closed,
            Self::Closed => EndReason::Reset,
            Self::Established
            | Self::Replied
            | Self::FinWait
            | Self::CloseWait
            | Self::LastAck
            | Self::ShutdownSent
            | Self::ShutdownReceived
            | Self::ShutdownAckSent
            | Self::Datagrams => EndReason::Idle,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the table needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The TCP header; a packet of a TCP flow without one is invalid.
    pub tcp: Option<TcpSegment>,
    /// What is in an SCTP packet; one of an SCTP flow without is invalid.
    pub sctp: Option<Chunks>,
    /// Octets the packet counts with, by the caller's definition (usually its IP length).
    pub bytes: u32,
}

impl Segment {
    /// A packet of a protocol without state of its own.
    #[inline]
    pub const fn datagram(bytes: u32) -> Self {
        Self {
            tcp: None,
            sctp: None,
            bytes,
        }
    }

    /// A TCP segment.
    #[inline]
    pub const fn tcp(tcp: TcpSegment, bytes: u32) -> Self {
        Self {
            tcp: Some(tcp),
            sctp: None,
            bytes,
        }
    }

    /// An SCTP packet.
    #[inline]
    pub const fn sctp(chunks: Chunks, bytes: u32) -> Self {
        Self {
            tcp: None,
            sctp: Some(chunks),
            bytes,
        }
    }
}

/// What a packet did to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Observed {
    /// The packet belongs to the flow and has been counted: forward it.
    Accept {
        /// The state the flow went to, if it changed.
        new_state: Option<State>,
    },
    /// An INIT in the original direction under the tuple of an association that is over; or
    /// a SYN, from either side, that opens a new connection under the tuple of one that is
    /// over: in CLOSED any, in TIME_WAIT one with a higher sequence number than its sender had in the
    /// connection before (RFC 9293 section 3.6.1; whether timestamps let an older one in, RFC 6191,
    /// the server decides). Nothing was counted: remove the flow with
    /// [`EndReason::Reopened`] and treat the packet as the first of a new flow.
    Reopen,
    /// The packet cannot belong to the flow. Nothing was counted or changed: drop it.
    Invalid(Invalid),
}

/// Why a packet cannot belong to the flow its tuple names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Invalid {
    /// The flow is gone: the [`FlowId`](crate::FlowId) is stale.
    NoFlow,
    /// A combination of TCP flags that no state calls for, such as SYN with FIN or none at all.
    Flags,
    /// A segment or packet that needs a handshake which has not taken place.
    NotOpen,
    /// A RST in a handshake that does not answer it (RFC 9293 section 3.10.7.3).
    BadReset,
    /// Beyond the window of its receiver, or it acknowledges what was never sent or long ago (RFC 9293
    /// section 3.10.7.4, RFC 5961).
    OutOfWindow,
    /// An SCTP packet with a verification tag that its receiver has not chosen (RFC 9260 section 8.5).
    BadTag,
}

impl Invalid {
    /// Every reason, in the order of the discriminants.
    pub const ALL: [Self; 6] = [
        Self::NoFlow,
        Self::Flags,
        Self::NotOpen,
        Self::BadReset,
        Self::OutOfWindow,
        Self::BadTag,
    ];

    /// The name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoFlow => "no_flow",
            Self::Flags => "flags",
            Self::NotOpen => "not_open",
            Self::BadReset => "bad_reset",
            Self::OutOfWindow => "out_of_window",
            Self::BadTag => "bad_tag",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
