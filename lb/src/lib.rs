//! Virtual servers, pools, members, selection, and source address translation.
