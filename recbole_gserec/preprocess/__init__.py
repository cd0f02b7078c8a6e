"""The offline stage (Section 4.1 of GSERec): prompts, summaries, vectors and codes, one file for each step."""
