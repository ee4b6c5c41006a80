// adopt gives the entries of a cache that coatcheck has written the names that MSAL Node
// looks for, so that it replaces them. Otherwise it keeps a refresh token that it has used
// beside the new one, and uses it again.
export function adopt(cache) {
  for (const section of ["RefreshToken", "IdToken"]) {
    cache[section] = Object.fromEntries(Object.entries(cache[section]).map(([key, entry]) => [`${key}-`, entry]));
  }
  return cache;
}
