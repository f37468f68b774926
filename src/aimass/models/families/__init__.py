"""Model families, one file each. Importing one imports its settings; torch comes when a network is built."""
