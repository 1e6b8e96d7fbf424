//! picluster-engine
