//! picluster-model
