//! Ports, workers, the pipeline, tables, counters, the control thread, and the tmm binary.
