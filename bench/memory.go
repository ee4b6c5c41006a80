package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"runtime"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// measureMemory fills a memory provider with 100 000 users of 4 KB. What is
// counted is all that is reachable after a collection: records, names, otter's
// own structures and the index of owners.
func measureMemory(int) ([]figure, error) {
	const users, size = 100_000, 4 << 10
	before := heap()
	p, err := newProvider()
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close(context.Background()) }()
	content := make([]byte, size)
	for range users {
		name := tokencache.Name{Owner: randomName(), Partition: randomName()}
		record := tokencache.Record{Sealed: content, Version: tokencache.NewVersion()}
		if err := p.Save(context.Background(), name, record, tokencache.Condition{}); err != nil {
			return nil, err
		}
	}
	used := heap() - before
	runtime.KeepAlive(p)
	return []figure{{
		"memory provider, 100 000 users of 4 KB, to the payload", float64(used) / (users * size), "×", atMost(1.35),
		fmt.Sprintf("%d bytes a user", used/users),
	}}, nil
}

// randomName has the shape of a storage name: a MAC of 32 bytes.
func randomName() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand, Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b)
}
