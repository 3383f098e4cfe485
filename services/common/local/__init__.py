"""What services share that run models on this machine."""
