"""`candlecast report`: what the views say of some weeks, as one page. Reads, draws, writes; needs no training."""
