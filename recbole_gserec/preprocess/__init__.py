"""The offline stage (Section 4.1 of GSERec): prompts, summaries, vectors, codes. One file per step."""
