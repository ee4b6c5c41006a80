// Package migration holds tests of tokencache.Migrate between real stores: users who
// signed in through one are found in the other, whatever happens on the way.
package migration
