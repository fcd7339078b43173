"""`make test` does not find these modules, because they are not called `test_…`. `make clients` names them."""
