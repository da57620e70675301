"""What an account earned and paid, by the chain's log alone, held against what the contracts say that it has."""
