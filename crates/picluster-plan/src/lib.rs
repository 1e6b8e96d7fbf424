//! picluster-plan
