package store
func childHold(string) {}
func childLoad(string) {}
