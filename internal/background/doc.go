// Package background is what storage providers do while nobody waits for it: work
// that ends with its owner, and leases that are given back because nobody knows
// whether they were granted.
package background
