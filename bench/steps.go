package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// measureSteps takes the parts of a request apart. There are no bars on them.
func measureSteps(rounds int) ([]figure, error) {
	ring, err := tokencache.NewKeyRing(random(tokencache.KeySize))
	if err != nil {
		return nil, err
	}
	figures, err := measureSealing(rounds, ring)
	if err != nil {
		return nil, err
	}
	provider, err := newProvider()
	if err != nil {
		return nil, err
	}
	defer func() { _ = provider.Close(context.Background()) }()
	cache, err := tokencache.New(provider, namespace, &tokencache.Options{
		Keys: &tokencache.Keys{Names: random(tokencache.KeySize), Seal: ring}, L1MaxAge: time.Nanosecond,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = cache.Close(context.Background()) }()
	keys, err := signIn(cache)
	if err != nil {
		return nil, err
	}
	everything := func(first, n int) error {
		for i := range n {
			if _, err := cache.Partition(keys[(first+i)%len(keys)]).Tokens(context.Background()); err != nil {
				return err
			}
		}
		return nil
	}
	// A sign-in to a partition that is there: load, open, decode, merge, encode,
	// seal, save.
	again := func(first, n int) error {
		for i := range n {
			user := (first + i) % len(keys)
			if _, err := cache.SignIn(context.Background(), func(context.Context) (tokencache.Grant, error) {
				return grant(user), nil
			}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, step := range []struct {
		what string
		do   batch
	}{
		{"load, open and match one token, memory provider, sealed", tokens(cache, keys, fromProvider)},
		{"load, open and decode everything", everything},
		{"sign in again: load, open, merge, seal, save", again},
	} {
		took, err := cost(rounds/3+1, step.do)
		if err != nil {
			return nil, err
		}
		figures = append(figures, microseconds(step.what, took))
	}
	return figures, nil
}

func measureSealing(rounds int, ring *tokencache.KeyRing) ([]figure, error) {
	plain, data := random(8<<10), []byte("name, version, namespace")
	sealed, err := ring.Encrypt(plain, data)
	if err != nil {
		return nil, err
	}
	seal, err := cost(rounds/3+1, func(_, n int) (err error) {
		for i := 0; i < n && err == nil; i++ {
			_, err = ring.Encrypt(plain, data)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	open, err := cost(rounds/3+1, func(_, n int) (err error) {
		for i := 0; i < n && err == nil; i++ {
			_, err = ring.Decrypt(sealed, data)
		}
		return err
	})
	return []figure{microseconds("seal 8 KB", seal), microseconds("open 8 KB", open)}, err
}

func microseconds(what string, d time.Duration) figure {
	return figure{what: what, value: float64(d.Nanoseconds()) / 1000, unit: "µs"}
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return b
}
