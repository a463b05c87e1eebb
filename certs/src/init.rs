//! The offline birth of a cluster.
