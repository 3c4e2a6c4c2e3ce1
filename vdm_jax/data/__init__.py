"""Data: chunked video records, readers, the input pipeline, video files."""
