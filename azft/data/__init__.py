"""Reading, checking and turning rows into token ids and loss masks. Streams; never imports torch."""
