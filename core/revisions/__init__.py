"""The revisions of this build: their list, how they are run, and the history a database keeps."""
