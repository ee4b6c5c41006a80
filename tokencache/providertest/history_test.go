package providertest_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache/providertest"
)

// The histories of providers that keep the contract under bad conditions have an
// explanation: replies are lost, calls fail, and every call takes its time, so
// that as many overlap as can.
func TestHistoryFaults(t *testing.T) {
	t.Parallel()
	late := func(ctx context.Context, c *providertest.Call) error {
		time.Sleep(rand.N(time.Millisecond))
		err := c.Do(ctx)
		time.Sleep(rand.N(time.Millisecond))
		return err
	}
	for name, fault := range map[string]providertest.Fault{
		"late": late,
		"lost replies": func(ctx context.Context, c *providertest.Call) error {
			if rand.IntN(50) == 0 {
				return providertest.LoseReplies()(ctx, c)
			}
			return late(ctx, c)
		},
		"flapping": providertest.Randomly(0.02, 1, providertest.Down()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := providertest.NewFaults(newReference(none))
				f.Set(fault)
				providertest.CheckHistory(t, f)
			})
		})
	}
}
