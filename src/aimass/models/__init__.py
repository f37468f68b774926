"""Networks, tasks, the Model that people keep, and the Learner that training sees."""
