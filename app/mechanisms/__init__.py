"""The Mechanisms page: does the nearest neighbour of a treatment share its mechanism?"""
