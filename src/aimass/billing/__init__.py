"""What was used, what it costs, and who owes it: usage records, the ledger, prices, budgets, invoices."""
