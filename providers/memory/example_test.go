package memory_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/providers/memory"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A Cache does all of this. It is how a provider answers.
func Example() {
	ctx := context.Background()
	provider, err := memory.New(&memory.Options{MaxBytes: 64 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = provider.Close(ctx) }()

	name := tokencache.Name{Owner: "MAC of the account", Partition: "MAC of the partition"}
	first := tokencache.Record{Sealed: []byte("sealed tokens"), Version: tokencache.NewVersion()}
	fmt.Println(provider.Save(ctx, name, first, tokencache.Condition{}))

	// Another machine refreshes, and this one then finds out that it is late.
	second := tokencache.Record{Sealed: []byte("newer tokens"), Version: tokencache.NewVersion()}
	fmt.Println(provider.Save(ctx, name, second, tokencache.IfVersion(first.Version)))
	late := tokencache.Record{Sealed: []byte("older tokens"), Version: tokencache.NewVersion()}
	err = provider.Save(ctx, name, late, tokencache.IfVersion(first.Version))
	fmt.Println(errors.Is(err, tokencache.ErrConflict))

	// Removing leaves a tombstone.
	removed := tokencache.Record{Version: tokencache.NewVersion()}
	fmt.Println(provider.Save(ctx, name, removed, tokencache.Always()))
	record, err := provider.Load(ctx, name)
	fmt.Println(record.Removed(), err)
	// Output:
	// <nil>
	// <nil>
	// true
	// <nil>
	// true <nil>
}
