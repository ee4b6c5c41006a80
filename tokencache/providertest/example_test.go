package providertest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/coatcheck-go/coatcheck/tokencache"
	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// An outage, and then a backend that loses one reply. In an application's test,
// a Cache stands in front of the faults.
func ExampleFaults() {
	ctx := context.Background()
	faults := providertest.NewFaults(newReference(none)) // or a provider of yours
	name := tokencache.Name{Owner: "MAC of the account", Partition: "MAC of the partition"}
	record := tokencache.Record{Sealed: []byte("sealed tokens"), Version: tokencache.NewVersion()}

	faults.Set(providertest.Down())
	_, err := faults.Load(ctx, name)
	fmt.Println("down:", err)

	faults.Clear()
	faults.Set(providertest.First(1, providertest.LoseReplies()), providertest.OpSave)
	err = faults.Save(ctx, name, record, tokencache.Condition{})
	fmt.Println("saved, but who knows:", err)
	err = faults.Save(ctx, name, record, tokencache.Condition{})
	fmt.Println("once more:", errors.Is(err, tokencache.ErrConflict))
	stored, err := faults.Load(ctx, name)
	fmt.Println("it was us:", stored.Version == record.Version, err)

	fmt.Println(faults.Calls(providertest.OpSave), "saves of", faults.Calls(), "calls")
	// Output:
	// down: providertest: an injected fault
	// saved, but who knows: providertest: an injected fault
	// once more: true
	// it was us: true <nil>
	// 2 saves of 4 calls
}
