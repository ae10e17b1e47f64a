"""The Quiz page: is this cell real or synthetic?"""
