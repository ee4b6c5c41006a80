// Package interop has tests only: that what Microsoft's authentication libraries have
// cached can be taken over, and what is cached here by them. MSAL Node and MSAL Go run
// in them, against a real authorization server; of MSAL for .NET, Python and Java they
// read caches that were written down. And azidentity runs: its records of who has signed
// in are good here, and those of here there.
package interop
