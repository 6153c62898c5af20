"""The job queues of Bull and BullMQ in Redis: copied, loaded to prove the copy, restored."""
