"""Lists: filters, orders, cursors, pages, searches and counts."""
