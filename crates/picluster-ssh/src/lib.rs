//! picluster-ssh
