"""Tables in files: CSV and Parquet as columns of texts, and what a table seems to be.

Open first: `text_tables`.
"""
