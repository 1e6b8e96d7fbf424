//! picluster-resource
