//! picluster-lab
