package identity

import (
	"context"
	"slices"
)

type chain []Verifier

// Chain asks the verifiers in order. The first that recognises the assertion decides, for good or ill; so
// does one that cannot tell (Unavailable), because a later one must not get what it would have refused.
// What nobody recognises is Invalid; so is everything under an empty chain.
func Chain(vs ...Verifier) Verifier { return chain(slices.Clone(vs)) }

func (c chain) Verify(ctx context.Context, email, assertion string) (Identity, error) {
	for _, v := range c {
		id, err := v.Verify(ctx, email, assertion)
		if err == nil {
			return id, nil
		}
		if KindOf(err) != Unrecognised {
			return Identity{}, err
		}
	}
	return Identity{}, refuse(Invalid)
}
