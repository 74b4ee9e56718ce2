"""Tests any receiver of mipOS's stock webhook (type 3), by what can be seen from outside."""
