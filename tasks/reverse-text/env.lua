-- Reverse a word: "abcdefgh>" asks for "hgfedcba".
--
-- The reward is the part of positions that are right, so that a half-right answer says where to
-- go; it is 1 only for the exact answer.
--
-- Demonstrations are a careless writer's: each letter is a random one with probability
-- params.slips. Imitation alone gets no further than that; the reward does.

local LETTERS = "abcdefghijklmnopqrstuvwxyz"
local LENGTH = params.length or 8
local ALPHABET = LETTERS:sub(1, params.letters or 26)
local SLIPS = params.slips or 0

local function random_letter()
    local n = math.random(#ALPHABET)
    return ALPHABET:sub(n, n)
end

-- The word of a problem: drawn from its seed until it belongs to its split.
local function word_of(problem)
    local word
    repeat
        local letter = {}
        for i = 1, LENGTH do
            letter[i] = random_letter()
        end
        word = table.concat(letter)
    until split(word) == problem.split
    return word
end

local function prompt(problem)
    return word_of(problem) .. ">"
end

local function demo(problem)
    local answer = word_of(problem):reverse()
    return (answer:gsub(".", function(letter)
        return math.random() < SLIPS and random_letter() or letter
    end))
end

local function score(problem, messages)
    local want = word_of(problem):reverse()
    local got = messages[#messages].text
    local right = 0
    for i = 1, #want do
        if got:byte(i) == want:byte(i) then
            right = right + 1
        end
    end
    local reward = right / math.max(#want, #got)
    return reward, { exact = got == want and 1 or 0, length = #got }
end

return { prompt = prompt, demo = demo, score = score }
