"""What is fuzzed: for each kind of file that others write, the function of ours that reads it, and examples.

An entry is a function without arguments that imports what it needs, once, and returns `read(folder, data)`
and examples. `read` puts the bytes where the reader looks for them, in an empty folder that it may fill, and
calls the reader. A reader of several files, or behind a checksum, gets the others whole and the checksum
right: a fuzzer would not get past it by chance, whoever writes a hostile file would.
"""

from experiments.fuzzing import archives, lists, records, runs

CHEAP = (records.tfrecord, records.gzip, records.record, records.shards)
CHEAP += (lists.manifest_csv, lists.manifest_jsonl, lists.ave, lists.ave_order, lists.kinetics, lists.ucf101)
CHEAP += (lists.classes, lists.vocabulary, lists.glove, lists.predictions, lists.class_ids)
CHEAP += (runs.run, runs.run_files, runs.model_flags, runs.checkpoint, runs.checkpoint_record)
CHEAP += (runs.estimator, runs.estimator_arrays)
CHEAP += (archives.npy, archives.npz, archives.archive, archives.tar)
# Name -> how its reader is made.
PARSERS = {
    make.__name__: make for make in (*CHEAP, archives.media_header, archives.media, archives.keras_model)
}
