/** Answers of several disks to one read, as groups of those that agree; the largest first. */
export interface Version {
  readonly bytes: Buffer;
  readonly voters: number[];
}

export function countVotes(answers: readonly (Buffer | undefined)[]): Version[] {
  const versions: Version[] = [];
  for (const [voter, bytes] of answers.entries()) {
    if (bytes === undefined) continue;
    const same = versions.find((version) => version.bytes.equals(bytes));
    if (same === undefined) versions.push({ bytes, voters: [voter] });
    else same.voters.push(voter);
  }
  return versions.sort((a, b) => b.voters.length - a.voters.length);
}
