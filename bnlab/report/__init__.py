"""What a session tells: lines on the terminal, columns of the HTML page, tables of all claims."""
