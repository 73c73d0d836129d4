"""What Inspect, Atlas, Data and Review share: pictures and what models say of them."""
